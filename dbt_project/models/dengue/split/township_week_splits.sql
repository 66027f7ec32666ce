{{ split_rows("dengue", ref("township_weeks"), key="township_week", label="cases") }}
